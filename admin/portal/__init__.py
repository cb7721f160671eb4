"""The developer portal: one folder for each group of pages, with its routes, its views and its templates."""
