"""Groups of verbs, one file each; what a verb does lies in its room."""
