"""The command line: one file for each verb. It prints, and never computes."""
