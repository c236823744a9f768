"""Documentation that is made from the code and from results: reference, headline, pictures."""
