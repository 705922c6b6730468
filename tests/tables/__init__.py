"""Tables generated from the libraries that the Jobs answer to."""
