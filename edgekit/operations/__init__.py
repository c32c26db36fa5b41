"""What joins packaging, devices, profiling and compression: the verbs of the command line, without printing."""
