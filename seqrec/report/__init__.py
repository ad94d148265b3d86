"""From run directories to tables, curves, tests of significance and one page."""
