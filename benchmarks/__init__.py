"""What hush costs, measured beside what it is compared with, in one run: `python -m benchmarks`.

An absolute figure means nothing on a shared machine. So each comparison runs its contenders in turn (A B C A B C ...),
each in a process of its own, takes the ratio of the figures of the same turn, and shows the median of those ratios.
"""
