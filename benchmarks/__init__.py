"""How fast the program is, and against what: `make bench` measures, prints a table and draws figures."""
