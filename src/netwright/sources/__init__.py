"""From a name or objects of Python to rows as they were read: tables, arrays, sequences, images; nothing learned from them."""
