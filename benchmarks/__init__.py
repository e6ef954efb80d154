"""How fast the service is, beside what else could be had on the same machine in the same run."""
