"""The data stages over a data set of any size, block by block, on one machine or on many."""
