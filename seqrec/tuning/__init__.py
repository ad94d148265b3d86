"""Search for the setting of a method that is best on validation, with the same number of trials for every method."""
