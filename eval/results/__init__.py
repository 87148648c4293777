"""results.json, its schema, the table and the comparison with an earlier one."""
