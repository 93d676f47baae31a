"""One file per dataset, or per family of them: each registers itself and imports nothing heavy.

Planning imports every file here, so numpy and pandas are imported inside the functions.
"""
