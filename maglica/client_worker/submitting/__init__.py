"""What people ask to be done, from the first word to a job on a host.

`submissions.py` the way of a request · `placing.py` where its jobs go · `profiles.py` what clones get by default ·
`groups.py` many at once · `policing.py` when one of them fails · `again.py` once more.
"""
