"""The table: everything maglica can be asked to do, one file per noun. `maglica/declare.py` says how to read it."""
