"""Studies of many trainings: the paper's tables again, and searches for better recipes."""
