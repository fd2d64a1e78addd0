"""What a person looks at: explanations of a network."""
