"""The science: seeds, networks, teacher, student, interventions, and what is measured per step."""
