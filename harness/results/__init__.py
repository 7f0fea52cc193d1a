"""What a run measured, as it stands in results.json."""
