"""Speed and memory against the bounds that the project keeps."""
