"""What every page of the portal and the console stands on: layout, language, forms, assets, and who may see what."""
