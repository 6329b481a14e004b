"""`minicloud up`, `down`, `status`, `doctor`: a cloud's life, seen from the command line."""
