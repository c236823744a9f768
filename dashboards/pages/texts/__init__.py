"""What rungs that read text read, and how alike their texts are."""
