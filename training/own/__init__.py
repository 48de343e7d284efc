"""Data of a user's own: a table, a folder of pictures or a series becomes a `DataSet` like the known ones."""
