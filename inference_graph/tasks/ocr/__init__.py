"""Reading text in images: engines that packages bring, as rungs of a ladder."""
