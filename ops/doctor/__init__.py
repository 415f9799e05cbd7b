"""`scheduler doctor`: what a new installation gets wrong, found before the service does.

Every check answers with one line and, unless all is well, with what to do. It changes nothing:
a database that is not there is not made, a table that is missing is not added.
"""

from ops.doctor.check import Check, Mark
from ops.doctor.round import examine, report

__all__ = ["Check", "Mark", "examine", "report"]
