"""The write-back executor: carries journaled changes to the store."""
