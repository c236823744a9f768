"""Drift: whether frames, answers or accuracy moved away from what the policy was trained on.

::

    reference   the frames a policy was trained and judged on, as the log would have them
    frames      what is compared: answers of the log, or of a reference
    thinning    which of them are far enough apart to count as independent
    comparison  KS, chi-square and MMD, each with a p-value
    harm        accuracy retained against the reference's, with its interval
    check       a window of the log: read, compared, decided, reported
    online      a detector that follows the stream
    bench       how often all this is wrong
"""
