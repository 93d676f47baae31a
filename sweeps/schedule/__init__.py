"""When and where: which job runs next, in which process, for how long. Pure."""
