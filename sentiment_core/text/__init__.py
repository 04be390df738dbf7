"""How a text becomes numbers, in one place for training and scoring; see `features`."""
