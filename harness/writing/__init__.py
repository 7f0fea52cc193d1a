"""What models write after prompts, how it is generated, and what tells good texts from bad."""
