"""From a source to prepared rows: read, divided, fitted on the train rows, mapped where memory is short."""
