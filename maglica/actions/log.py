"""The words of the first Maglica for what `job` says now."""

from __future__ import annotations

from maglica.actions.job import JobList, JobShow
from maglica.declare import alias

alias("log tail", JobList, last=10)
alias("log status", JobShow)
