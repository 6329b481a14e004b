"""Journal engines behind `base.machine.Journal`, and the store of large things (blobs)."""
