"""What train.py, scripts/ and the console script `seqrec` run."""
