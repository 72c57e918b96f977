from tests.quicker import hurry

hurry()
