"""The documentation: pages written in Markdown, with the numbers of the database and of the code in them."""
