"""Words that noise, keys and lists are made of: everyday ones, which most tokenizers have whole."""

_ADJECTIVES = (
    "old new red blue green white black warm cold dark bright quiet loud small large round square heavy light soft "
    "hard slow quick early late near distant open hidden narrow wide high low plain golden silver wooden broken "
    "clean dusty empty full gentle grey happy honest idle kind lonely modest patient proud rough sharp silent simple "
    "steady strange sweet tall thin"
)
_NOUNS = (
    "river garden window table lamp horse ship tower bridge forest letter mirror candle basket kettle ladder wagon "
    "village harbour island meadow mountain valley orchard stable kitchen cellar chimney carpet curtain bottle button "
    "hammer needle pillow ribbon saddle shovel spoon thread trumpet umbrella wheel whistle apple barley cherry "
    "clover copper feather fountain lantern market marble nephew parcel pebble pigeon rabbit shepherd"
)
_VERBS = (
    "stood waited slept rested turned shone grew moved lay stayed vanished trembled listened sang drifted lingered "
    "returned gathered leaned wandered"
)
_PLACES = (
    "behind the house|beside the road|under the roof|near the water|at the corner|in the yard|by the gate|on the hill|"
    "along the wall|above the door|after the rain|before the storm|in the evening|at noon|through the night|"
    "without a sound|for a long time|as it always had|with the others|far from the town"
)
_ITEMS = (
    "almond anchor arrow autumn bacon balloon banana beaver biscuit blanket bracelet butter cabbage camel canvas "
    "carrot castle cement circle coffee cotton cousin crystal cushion desert diamond dolphin donkey dragon eagle "
    "engine falcon finger flower galaxy ginger giraffe guitar harvest helmet honey insect jacket jungle lemon "
    "library lizard magnet melon monkey muffin museum mustard napkin ocean onion orange oyster panda pepper piano "
    "planet potato pumpkin puppet puzzle rocket salmon satin scissors shadow singer spider squirrel summer sugar "
    "temple ticket tiger tomato tunnel turtle velvet violin walnut willow winter wizard yogurt zebra"
)

ADJECTIVES = tuple(_ADJECTIVES.split())
NOUNS = tuple(_NOUNS.split())
VERBS = tuple(_VERBS.split())
PLACES = tuple(_PLACES.split("|"))
ITEMS = tuple(_ITEMS.split())  # of lists alone: no noise has them
