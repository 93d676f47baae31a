"""What is computed: specifications, jobs and their keys. Pure, without input or output."""
