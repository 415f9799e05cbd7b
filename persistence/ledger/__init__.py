"""What bars leave behind: the one transaction of a step, and the rows that it writes."""
