"""Speech to text: engines that packages bring, as rungs of a ladder."""
