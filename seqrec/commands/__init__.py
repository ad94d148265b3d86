"""The commands behind train.py, scripts/ and the console script `seqrec`."""
