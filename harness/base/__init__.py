"""What every room needs: the terminal, the stages of a run, whole files, and memory."""
