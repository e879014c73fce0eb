"""From maps to what people look at: explanations, pictures and pages."""
