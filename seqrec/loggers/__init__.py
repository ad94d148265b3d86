"""Where the configuration, curves and final metrics of a run are logged besides its own files."""
