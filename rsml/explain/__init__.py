"""Why a model scored as it did: class maps, what SIGNA did, and how faithful the maps are."""
