//! Changing people, and listing them.

use likeness_proto::v1;

use crate::support::pictures::astronaut_small;
use crate::support::{Client, Server, refusal};

async fn update(client: &Client, name: Option<&str>, tags: Option<&[&str]>) -> v1::Person {
    let request = v1::UpdatePersonRequest {
        collection: "staff".to_owned(),
        person_id: "eileen".to_owned(),
        name: name.map(str::to_owned),
        tags: tags.map(|tags| v1::TagList {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        }),
        ..Default::default()
    };
    let reply = client.persons.clone().update_person(request).await;
    reply.expect("changed").into_inner().person.expect("a person")
}

#[tokio::test(flavor = "multi_thread")]
async fn name_and_tags_change_apart_and_the_face_stays() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    let small = astronaut_small();
    client
        .enroll("staff", "eileen", &[&small])
        .await
        .expect("enrolled");
    let named = update(&client, Some("Eileen"), None).await;
    assert_eq!((&named.name[..], named.tags.len()), ("Eileen", 0));
    let tagged = update(&client, None, Some(&["pilot", "crew"])).await;
    assert_eq!(tagged.name, "Eileen");
    assert_eq!(tagged.tags, ["crew", "pilot"]);
    let bare = update(&client, Some(""), Some(&[])).await;
    assert_eq!((&bare.name[..], bare.tags.len(), bare.faces.len()), ("", 0, 1));
    assert!(client.person("staff", "eileen").await.expect("kept") == bare);
    assert_eq!(client.found("staff", &small).await, ["eileen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_listed_once_each_whatever_the_page() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create("staff").await;
    client.create("others").await;
    let small = astronaut_small();
    let everyone: Vec<_> = (0..7).map(|i| format!("person-{i}")).collect();
    for person_id in &everyone {
        client
            .enroll("staff", person_id, &[&small])
            .await
            .expect("enrolled");
    }
    client
        .enroll("others", "somebody", &[&small])
        .await
        .expect("enrolled");
    for page_size in [1, 3, 7, 1000] {
        let (mut listed, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = v1::ListPersonsRequest {
                collection: "staff".to_owned(),
                page_size,
                cursor,
            };
            let reply = client.persons.clone().list_persons(request).await;
            let page = reply.expect("listed").into_inner();
            assert!(page.persons.len() <= page_size as usize);
            assert_eq!(page.damaged_persons, 0);
            listed.extend(page.persons.into_iter().map(|person| person.person_id));
            cursor = page.next_cursor;
            pages += 1;
            if cursor.is_empty() {
                break;
            }
        }
        listed.sort();
        assert_eq!(listed, everyone);
        assert_eq!(pages, 7_u32.div_ceil(page_size), "no page is empty");
    }
    let made_up = v1::ListPersonsRequest {
        collection: "staff".to_owned(),
        page_size: 0,
        cursor: "made up".to_owned(),
    };
    let refused = client.persons.clone().list_persons(made_up).await;
    assert_eq!(refusal::fields(refused), ["cursor"]);
}
