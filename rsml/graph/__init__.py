"""Labels turned into a label graph and word vectors."""
