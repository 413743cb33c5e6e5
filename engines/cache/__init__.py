"""The on-disk engine cache: keys, records, index and signatures."""
