"""What serving costs beside its parts, and what a failing rung costs a stream.

Every figure is a ratio or a difference against an alternative that is measured in the same run, in
turn with it, because machines are shared and their speed moves.
"""
