"""The worker processes of this machine: work handed out, hung and dead ones replaced."""
