"""What a data set asks of a loss, and which scores of a detector to trust."""
