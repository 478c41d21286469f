"""From a public data set as its owners distribute it to the folders that ``FolderSites`` reads."""
