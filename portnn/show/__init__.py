"""What a person looks at: summaries, diagrams, pictures, explanations."""
