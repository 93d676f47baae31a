"""Files that start oneshui on clouds, Kubernetes and Slurm, and what checks them without any."""
